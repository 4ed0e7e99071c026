//! Cuts the body of a feed into rows, whatever pieces it arrives in.
//!
//! Inside `results` a row ends where its brackets do, so that the content of one row cannot spoil the next.

/// The bytes of one row or line.
pub(crate) type Piece = Vec<u8>;

/// Why a body cannot be cut into rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsplittable {
    /// A row is longer than allowed.
    TooLong,
    /// It is no feed.
    NotAFeed,
    /// It stops in the middle.
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Lines of a continuous feed.
    Lines,
    /// Before the first row of a page.
    Head,
    /// Among the rows of a page.
    Rows,
    /// After the last row of a page.
    Tail,
}

#[derive(Debug)]
pub(crate) struct Splitter {
    place: Place,
    /// The row or line so far.
    piece: Piece,
    /// What stands around the rows of a page.
    frame: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    max: usize,
}

impl Splitter {
    pub(crate) fn of_page(max: usize) -> Self {
        Self::new(Place::Head, max)
    }

    pub(crate) fn of_lines(max: usize) -> Self {
        Self::new(Place::Lines, max)
    }

    fn new(place: Place, max: usize) -> Self {
        Self { place, piece: Vec::new(), frame: Vec::new(), depth: 0, in_string: false, escaped: false, max }
    }

    /// Takes the next bytes and hands over each row that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut row: impl FnMut(Piece)) -> Result<(), Unsplittable> {
        for &byte in bytes {
            match self.place {
                Place::Lines if byte == b'\n' => self.hand_over(&mut row),
                Place::Lines => self.piece.push(byte),
                Place::Head => self.head(byte)?,
                Place::Rows => self.row(byte, &mut row),
                Place::Tail => self.frame.push(byte),
            }
            if self.piece.len() > self.max || self.frame.len() > self.max {
                return Err(Unsplittable::TooLong);
            }
        }
        Ok(())
    }

    /// Ends the body of a page and gives what stood around its rows.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Unsplittable> {
        match self.place {
            Place::Tail => Ok(self.frame),
            Place::Head if !self.frame.trim_ascii_start().starts_with(b"{") => Err(Unsplittable::NotAFeed),
            Place::Lines | Place::Head | Place::Rows => Err(Unsplittable::Truncated),
        }
    }

    fn head(&mut self, byte: u8) -> Result<(), Unsplittable> {
        self.frame.push(byte);
        if self.outside_strings(byte) && byte == b'[' {
            let before: Vec<u8> = self.frame.iter().filter(|b| !b.is_ascii_whitespace()).copied().collect();
            if !before.ends_with(b"\"results\":[") {
                return Err(Unsplittable::NotAFeed);
            }
            self.place = Place::Rows;
        }
        Ok(())
    }

    fn row(&mut self, byte: u8, row: &mut impl FnMut(Piece)) {
        let structural = self.outside_strings(byte);
        match byte {
            b',' if structural && self.depth == 0 => self.hand_over(row),
            b']' if structural && self.depth == 0 => {
                self.hand_over(row);
                self.frame.push(byte);
                self.place = Place::Tail;
            }
            _ => {
                match byte {
                    b'{' | b'[' if structural => self.depth += 1,
                    b'}' | b']' if structural => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.piece.push(byte);
            }
        }
    }

    /// Follows strings; says whether the byte has its structural meaning.
    fn outside_strings(&mut self, byte: u8) -> bool {
        if !self.in_string {
            self.in_string = byte == b'"';
            return true;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
        false
    }

    fn hand_over(&mut self, row: &mut impl FnMut(Piece)) {
        let piece = std::mem::take(&mut self.piece);
        if !piece.trim_ascii().is_empty() {
            row(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(mut splitter: Splitter, pieces: &[&[u8]]) -> (Vec<String>, Result<Vec<u8>, Unsplittable>) {
        let mut rows = Vec::new();
        for piece in pieces {
            let text = |row: Piece| rows.push(String::from_utf8_lossy(&row).trim().to_owned());
            if let Err(error) = splitter.push(piece, text) {
                return (rows, Err(error));
            }
        }
        (rows, splitter.finish())
    }

    #[test]
    fn rows_and_frame_come_apart_in_either_order() {
        let body =
            "{\"last_seq\":\"3\",\"results\":[\n{\"a\":\"}],{\"},\n\n{\"b\":[1,[2]]}\n],\"pending\":0}\n";
        let (rows, frame) = split(Splitter::of_page(1000), &[body.as_bytes()]);
        assert_eq!(rows, [r#"{"a":"}],{"}"#, r#"{"b":[1,[2]]}"#]);
        let frame: serde_json::Value = serde_json::from_slice(&frame.unwrap()).unwrap();
        assert_eq!(frame, serde_json::json!({"last_seq": "3", "results": [], "pending": 0}));
    }

    #[test]
    fn what_is_no_feed_or_stops_says_so() {
        let page = |body: &str| split(Splitter::of_page(100), &[body.as_bytes()]).1.unwrap_err();
        assert_eq!(page("<html>"), Unsplittable::NotAFeed);
        assert_eq!(page(""), Unsplittable::NotAFeed);
        assert_eq!(page(r#"{"other":[1]}"#), Unsplittable::NotAFeed);
        assert_eq!(page(r#"{"resu"#), Unsplittable::Truncated);
        assert_eq!(page(r#"{"results":[{"a":1}"#), Unsplittable::Truncated);
        assert_eq!(page(&format!(r#"{{"results":["{}""#, "x".repeat(200))), Unsplittable::TooLong);
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
            r#"[\[\]{}",:\\\n]{0,6}"#.prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn pieces<'a>(body: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn pages_survive_any_cut(rows in prop::collection::vec(json_value(), 0..6), cuts in prop::collection::vec(any::<usize>(), 0..8), heartbeats in 0..3_usize) {
            let texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
            let body = format!("{{\"results\":[\n{}{}\n],\n\"last_seq\":\"1-x\",\"pending\":0}}\n", "\n".repeat(heartbeats), texts.join(",\n"));
            let (found, frame) = split(Splitter::of_page(1 << 20), &pieces(body.as_bytes(), &cuts));
            prop_assert_eq!(found, texts);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&frame.unwrap()).is_ok());
        }

        #[test]
        fn lines_survive_any_cut(rows in prop::collection::vec(json_value(), 0..6), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
            let texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
            let body: String = texts.iter().map(|row| format!("{row}\n\n")).collect();
            let (found, _) = split(Splitter::of_lines(1 << 20), &pieces(body.as_bytes(), &cuts));
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn any_bytes_in_any_pieces_give_the_same(body in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(any::<usize>(), 0..8), page in any::<bool>(), framed in any::<bool>()) {
            let new = || if page { Splitter::of_page(200) } else { Splitter::of_lines(200) };
            let body = if framed { [b"{\"results\":[".as_slice(), &body].concat() } else { body };
            let whole = split(new(), &[&body]);
            prop_assert_eq!(whole, split(new(), &pieces(&body, &cuts)));
        }
    }
}
