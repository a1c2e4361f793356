//! Reading server-sent events from bytes as they arrive.

/// The longest line that is kept; a longer one means that the peer speaks something else.
const LONGEST_LINE: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The kind; `message` if the server names none.
    pub(crate) name: String,
    /// The data.
    pub(crate) data: String,
    /// The last id that the server gave, with this event or before.
    pub(crate) id: Option<String>,
}

/// A line was too long to be an event stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oversized;

/// An incremental reader.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: Vec<String>,
    id: Option<String>,
}

impl Parser {
    /// Reads more bytes and returns the events that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Oversized> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                // The second half of CR LF, whose first half has ended the line.
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                _ => {
                    self.after_return = false;
                    if self.line.len() >= LONGEST_LINE {
                        return Err(Oversized);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty() || !name.is_empty()).then(|| Event {
                name: if name.is_empty() { "message".to_owned() } else { name },
                data: data.join("\n"),
                id: self.id.clone(),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push(value.to_owned()),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty field) and `retry` need no answer: the wait is our own.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Oversized, Parser};
    use proptest::prelude::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
        }
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (text, events) in [
            ("data: x\n\n", vec![event("message", "x", None)]),
            ("event: items\n\n", vec![event("items", "", None)]),
            ("event:stop\ndata:{}\nid:7\n\n", vec![event("stop", "{}", Some("7"))]),
            ("data: a\ndata: b\n\n", vec![event("message", "a\nb", None)]),
            (": keep alive\n\n", vec![]),
            (
                "data: x\r\n\r\ndata: y\r\r",
                vec![event("message", "x", None), event("message", "y", None)],
            ),
            (
                "id: 1\ndata: x\n\ndata: y\n\n",
                vec![event("message", "x", Some("1")), event("message", "y", Some("1"))],
            ),
            ("data: half", vec![]),
            ("retry: 10\nunknown: x\ndata\n\n", vec![event("message", "", None)]),
        ] {
            assert_eq!(Parser::default().feed(text.as_bytes()), Ok(events), "{text:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        let megabyte = vec![b'x'; 1 << 20];
        let ended = (0..20).map(|_| parser.feed(&megabyte)).find(Result::is_err);
        assert_eq!(ended, Some(Err(Oversized)));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            text in "(data: [a-zé]{0,5}|id: [0-9]|event: [a-z]{1,3}|: c|\r|\n|\r\n|\n\n){0,20}",
            cut in 0_usize..100,
        ) {
            let bytes = text.as_bytes();
            let whole = Parser::default().feed(bytes).unwrap();
            let cut = cut.min(bytes.len());
            let mut parser = Parser::default();
            let mut parts = parser.feed(&bytes[..cut]).unwrap();
            parts.extend(parser.feed(&bytes[cut..]).unwrap());
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Parser::default().feed(&bytes);
        }
    }
}
