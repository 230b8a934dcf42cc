//! Rust source, line by line, with code and comments told apart: enough for rules on words, not a parser.
//!
//! What stands in string and character literals belongs to neither.

/// One line.
#[derive(Debug, Default)]
pub struct Line {
    /// The code, literals emptied.
    pub code: String,
    /// The comments, with their slashes.
    pub comment: String,
}

impl Line {
    /// Nothing but a comment.
    pub fn only_comment(&self) -> bool {
        self.code.trim().is_empty() && !self.comment.trim().is_empty()
    }

    /// Counts as a line of code.
    pub fn is_code(&self) -> bool {
        !self.code.trim().is_empty()
    }
}

enum State {
    Code,
    LineComment,
    BlockComment(u32),
    /// In a string that ends with a quote and so many hashes; a plain one has none and knows escapes.
    Text {
        hashes: usize,
        raw: bool,
    },
}

/// Takes a source apart.
pub fn lines(text: &str) -> Vec<Line> {
    let mut state = State::Code;
    text.lines().map(|line| one(line, &mut state)).collect()
}

fn one(line: &str, state: &mut State) -> Line {
    let chars: Vec<char> = line.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let mut out = Line::default();
    if matches!(state, State::LineComment) {
        *state = State::Code;
    }
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        match state {
            State::Code if c == '/' && at(i + 1) == '/' => {
                *state = State::LineComment;
                continue;
            }
            State::Code if c == '/' && at(i + 1) == '*' => {
                *state = State::BlockComment(1);
                i += 1;
            }
            State::Code => i += code(&chars, i, &mut out, state),
            State::LineComment => out.comment.push(c),
            State::BlockComment(depth) => {
                let mark = (c, at(i + 1));
                match mark {
                    ('*', '/') => *depth -= 1,
                    ('/', '*') => *depth += 1,
                    _ => out.comment.push(c),
                }
                if matches!(mark, ('*', '/') | ('/', '*')) {
                    i += 1;
                }
                if *depth == 0 {
                    *state = State::Code;
                }
            }
            State::Text { raw: false, .. } if c == '\\' => i += 1,
            State::Text { hashes, .. } if c == '"' && (0..*hashes).all(|n| at(i + 1 + n) == '#') => {
                i += *hashes;
                out.code.push('"');
                *state = State::Code;
            }
            State::Text { .. } => {}
        }
        i += 1;
    }
    out
}

/// A character of code at `i`; returns how many more belong to it.
fn code(chars: &[char], i: usize, out: &mut Line, state: &mut State) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    out.code.push(at(i));
    match at(i) {
        '"' => *state = State::Text { hashes: 0, raw: false },
        'r' if !word_before || at(i - 1) == 'b' => {
            let hashes = (i + 1..).take_while(|&n| at(n) == '#').count();
            if at(i + 1 + hashes) == '"' {
                *state = State::Text { hashes, raw: true };
                return hashes + 1;
            }
        }
        // A character, and no lifetime: something and a quote, or an escape.
        '\'' if at(i + 2) == '\'' && at(i + 1) != '\\' => return 2,
        '\'' if at(i + 1) == '\\' => return (i + 3..).take_while(|&n| at(n) != '\'' && at(n) != '\n').count() + 3,
        _ => {}
    }
    0
}

/// Where `word` stands in `code` as a word of its own.
pub fn find_word(code: &str, word: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = code.get(..at).and_then(|s| s.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comments_are_told_apart() {
        let text = "let a = \"// unsafe\"; // why\nlet b = r#\"unsafe \" { \"#; /* one\n two */ let c = '\"'; let d: &'a str = '\\'';";
        let lines = lines(text);
        assert_eq!(lines[0].code, "let a = \"\"; ");
        assert_eq!(lines[0].comment, "// why");
        assert_eq!(lines[1].code, "let b = r\"; ");
        assert_eq!(lines[1].comment, " one");
        assert_eq!(lines[2].comment, " two ");
        assert_eq!(lines[2].code, " let c = '; let d: &'a str = ';");
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("#![forbid(unsafe_code)] unsafe {", "unsafe"), Some(24));
        assert_eq!(find_word("unsafely", "unsafe"), None);
    }
}
