//! Revisions and the tree of them that one document has: leaves, the winner, conflicts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many ancestors a tree without conflicts keeps.
const KEPT_ANCESTORS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Rev {
    pub pos: u32,
    pub hash: u128,
}

impl Rev {
    /// `None` is text that CouchDB calls an invalid revision format.
    pub fn parse(text: &str) -> Option<Self> {
        let (pos, hash) = text.split_once('-')?;
        let pos = pos.parse().ok()?;
        let known = (hash.len() == 32).then(|| u128::from_str_radix(hash, 16).ok()).flatten();
        Some(Self { pos, hash: known.unwrap_or_else(|| digest(&[hash.as_bytes()])) })
    }

    /// The revision that an edit of `parent` to this content gets; the same edit gets the same one.
    pub fn child(parent: Option<Self>, deleted: bool, body: &str) -> Self {
        let parent = parent.unwrap_or(Self { pos: 0, hash: 0 });
        let hash = digest(&[&parent.hash.to_be_bytes(), &[u8::from(deleted)], body.as_bytes()]);
        Self { pos: parent.pos + 1, hash }
    }

    pub fn hash_text(self) -> String {
        format!("{:032x}", self.hash)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.pos, self.hash)
    }
}

fn digest(parts: &[&[u8]]) -> u128 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let bytes: [u8; 32] = hasher.finalize().into();
    bytes[..16].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Node {
    pub rev: Rev,
    parent: Option<u32>,
    pub deleted: bool,
    /// JSON of the document without `_id`, `_rev` and `_deleted`; `None` when it is not kept.
    pub body: Option<Box<str>>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    winner: u32,
}

impl Tree {
    pub fn winner(&self) -> &Node {
        &self.nodes[self.winner as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn find(&self, rev: Rev) -> Option<&Node> {
        self.nodes.iter().find(|node| node.rev == rev)
    }

    fn position(&self, rev: Rev) -> Option<u32> {
        self.nodes.iter().position(|node| node.rev == rev).map(|at| at as u32)
    }

    fn is_leaf(&self, at: u32) -> bool {
        !self.nodes.iter().any(|node| node.parent == Some(at))
    }

    pub fn leaves(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().enumerate().filter(|(at, _)| self.is_leaf(*at as u32)).map(|(_, node)| node)
    }

    /// Leaves that lost and are not deleted.
    pub fn conflicts(&self) -> Vec<Rev> {
        let winner = self.winner().rev;
        self.leaves().filter(|leaf| !leaf.deleted && leaf.rev != winner).map(|leaf| leaf.rev).collect()
    }

    /// A revision and its ancestors, newest first.
    pub fn path(&self, rev: Rev) -> Vec<Rev> {
        let mut path = Vec::new();
        let mut at = self.position(rev);
        while let Some(index) = at {
            let node = &self.nodes[index as usize];
            path.push(node.rev);
            at = node.parent;
        }
        path
    }

    /// An edit with the usual check: `base` must be a leaf, and may be left out for a new or deleted document only.
    pub fn edit(&mut self, base: Option<Rev>, deleted: bool, body: String) -> Option<Rev> {
        let parent = match base {
            None if self.is_empty() => None,
            None => Some(self.winner).filter(|_| self.winner().deleted && !deleted).map(Some)?,
            Some(base) => Some(self.position(base).filter(|at| self.is_leaf(*at))?),
        };
        let rev = Rev::child(parent.map(|at| self.nodes[at as usize].rev), deleted, &body);
        self.nodes.push(Node { rev, parent, deleted, body: Some(body.into()) });
        self.settle();
        Some(rev)
    }

    /// A revision as replication brings it, with its ancestors newest first; it never fails.
    pub fn graft(&mut self, path: &[Rev], deleted: bool, body: String) {
        let Some((newest, older)) = path.split_first() else { return };
        if self.find(*newest).is_some() {
            return;
        }
        let known = older.iter().position(|rev| self.position(*rev).is_some());
        let mut parent = known.and_then(|at| self.position(older[at]));
        for rev in older[..known.unwrap_or(older.len())].iter().rev() {
            self.nodes.push(Node { rev: *rev, parent, deleted: false, body: None });
            parent = Some(self.nodes.len() as u32 - 1);
        }
        self.nodes.push(Node { rev: *newest, parent, deleted, body: Some(body.into()) });
        self.settle();
    }

    /// Finds the winner and lets go of ancestors that are far away.
    fn settle(&mut self) {
        let linear = self
            .nodes
            .iter()
            .enumerate()
            .all(|(at, node)| node.parent == at.checked_sub(1).map(|n| n as u32));
        if linear && self.nodes.len() > KEPT_ANCESTORS {
            self.nodes.remove(0);
            for (at, node) in self.nodes.iter_mut().enumerate() {
                node.parent = at.checked_sub(1).map(|n| n as u32);
            }
        }
        let best = (0..self.nodes.len() as u32)
            .filter(|at| self.is_leaf(*at))
            .max_by_key(|at| (!self.nodes[*at as usize].deleted, self.nodes[*at as usize].rev));
        self.winner = best.unwrap_or(0);
    }

    /// Lets go of the bodies that were replaced, as a compaction does.
    pub fn compact(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.is_leaf(at as u32) {
                self.nodes[at].body = None;
            }
        }
        self.nodes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_need_a_leaf_and_deleted_documents_are_free_again() {
        let mut tree = Tree::default();
        let first = tree.edit(None, false, "{}".into()).unwrap();
        assert!(tree.edit(None, false, "{}".into()).is_none());
        let second = tree.edit(Some(first), false, r#"{"a":1}"#.into()).unwrap();
        assert!(tree.edit(Some(first), false, "{}".into()).is_none(), "stale");
        let third = tree.edit(Some(second), true, "{}".into()).unwrap();
        assert!(tree.winner().deleted);
        let again = tree.edit(None, false, "{}".into()).unwrap();
        assert_eq!((third.pos, again.pos), (3, 4));
        assert_eq!(tree.path(again), [again, third, second, first]);
    }

    #[test]
    fn grafts_make_conflicts_with_one_winner_whatever_the_order() {
        let (a, b) = (Rev { pos: 1, hash: 1 }, Rev { pos: 1, hash: 2 });
        for order in [[a, b], [b, a]] {
            let mut tree = Tree::default();
            order.iter().for_each(|rev| tree.graft(&[*rev], false, "{}".into()));
            assert_eq!((tree.winner().rev, tree.conflicts()), (b, vec![a]));
        }
    }
}
