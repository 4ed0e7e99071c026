//! The durable transactions of the delivery core: each is one type here and runs on every store.
//!
//! Guarantees, in the numbering of `docs/architecture.md`: a cursor moves with what it covers (I1); one open attempt a
//! lane (I2); nothing is sent without a durable `Sent` (I3); a settled key never again (I5); a lane goes by sequence
//! (I6); a newer state takes the place of an older unsent one (I7); one end a system and person (I9); a settle needs
//! its claim (I10); exclusive names (I11); plan numbers (I12).

mod accept;
mod browse;
mod claim;
mod enqueue;
mod feeds;
mod halt;
mod inspect;
mod keys;
mod lanes;
mod links;
mod overdue;
mod people;
mod recover;
mod row;
mod settle;
mod take;

pub use accept::{Accept, Accepted, FeedMove, Item, Unread};
pub use browse::{FetchAgain, LinkedRecord, ListLinks, ListUnreadable, UnreadableRow};
pub use claim::{Claim, Claimed, Decision, NO_ANSWER, NOT_HELD, Planned};
pub use enqueue::NewRow;
pub use feeds::{Cursor, DueRefresh, FeedState, ListFeeds, LoadCursor, SeenDigests, Tick};
pub use halt::{Configured, EndHalt, Halt, Halted, ListHalted, ProbeDue};
pub use inspect::{
    Counts, DeadLetter, Forget, ListDead, ListReviews, Purge, Replay, Resolve, ReviewEntry, Totals, Verdict,
};
pub use keys::{Key, Keys, effect_key, hex};
pub use links::{Base, Ends, Link, LinkEnd, Links, Relation};
pub use overdue::GiveUpWaiting;
pub use people::{Conflict, Conflicts, Decisions, NewerEdit, OpenCreates};
pub use recover::Recover;
pub use row::{Notes, Row, State};
pub use settle::{Settle, SettleItem, Settled};
pub use take::Take;
