//! I-Regexp (RFC 9485), the regular expressions of `match` and `search`: checked against its
//! grammar, then compiled by `regex`, which runs in linear time.
//!
//! `^` and `$` are ordinary characters in that grammar, but anchors in all engines that the RFC
//! maps it to. Here they are anchors, as in the compliance suite of JSONPath.

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

/// Maximum characters and classes of a pattern, with repetitions multiplied.
const SIZE_MAX: usize = 1000;
/// Maximum nesting of groups.
const DEPTH_MAX: usize = 32;
/// Maximum bytes of a compiled pattern, and of the cache of a search.
const COMPILED_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct CompiledPattern {
    regex: Regex,
    size: usize,
}

impl CompiledPattern {
    /// Compiles a pattern that matches a whole text or any part of it.
    pub(super) fn compile(text: &[u8], is_whole: bool) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut reader = PatternReader {
            chars: text.chars().peekable(),
            at: 0,
            depth: 0,
            out: String::with_capacity(text.len() + 16),
        };
        let size = reader.alternatives()?;
        if reader.chars.peek().is_some() {
            return Err(reader.wrong("unmatched )"));
        }
        if size > SIZE_MAX {
            return Err(format!(
                "it has {size} characters and classes including repetitions, allowed are {SIZE_MAX}"
            ));
        }
        let whole = match is_whole {
            true => format!(r"\A(?:{})\z", reader.out),
            false => reader.out,
        };
        let regex = RegexBuilder::new(&whole)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .build();
        match regex {
            Ok(regex) => Ok(Self { regex, size }),
            Err(regex::Error::CompiledTooBig(_)) => Err("it is too large".to_owned()),
            Err(_) => Err("it can't be compiled".to_owned()),
        }
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Maximum steps per byte of a search.
    pub(super) fn cost(&self) -> u64 {
        self.size as u64 / 4 + 1
    }
}

struct PatternReader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    /// Characters read so far.
    at: usize,
    depth: usize,
    /// The pattern translated for `regex`.
    out: String,
}

impl PatternReader<'_> {
    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.chars.next()
    }

    fn eat(&mut self, c: char) -> bool {
        let is_next = self.chars.peek() == Some(&c);
        if is_next {
            self.next();
        }
        is_next
    }

    /// An error at the previous character.
    fn wrong(&self, message: &str) -> String {
        format!("{message} (character {} of the pattern)", self.at.max(1))
    }

    fn alternatives(&mut self) -> Result<usize, String> {
        let mut size = 0_usize;
        loop {
            size = size.saturating_add(self.branch()?);
            if !self.eat('|') {
                return Ok(size);
            }
            self.out.push('|');
        }
    }

    fn branch(&mut self) -> Result<usize, String> {
        let mut size = 0_usize;
        while !matches!(self.chars.peek(), None | Some('|' | ')')) {
            let atom = self.atom()?;
            let times = self.quantifier()?;
            size = size.saturating_add(atom.saturating_mul(times));
        }
        Ok(size)
    }

    fn atom(&mut self) -> Result<usize, String> {
        match self.next() {
            Some('(') => {
                if self.depth == DEPTH_MAX {
                    return Err(self.wrong(&format!("groups nest at most {DEPTH_MAX} deep")));
                }
                self.depth += 1;
                self.out.push_str("(?:");
                let size = self.alternatives()?;
                if !self.eat(')') {
                    return Err(self.wrong("a ( is not closed"));
                }
                self.out.push(')');
                self.depth -= 1;
                return Ok(size.max(1));
            }
            Some('.') => self.out.push_str(r"[^\n\r]"),
            Some('[') => self.class()?,
            Some('\\') => match self.next() {
                Some(p @ ('p' | 'P')) => self.category(p)?,
                Some(c) => self.escaped(c)?,
                None => return Err(self.wrong("a \\ at the end")),
            },
            Some(c @ (']' | '{' | '}' | '*' | '+' | '?')) => {
                return Err(self.wrong(&format!("{c} must be escaped here, write \\{c}")));
            }
            Some(c) => self.out.push(c),
            None => return Err(self.wrong("unexpected end")),
        }
        Ok(1)
    }

    /// Maximum repetitions of the previous atom; an unlimited one counts once more than its
    /// minimum.
    fn quantifier(&mut self) -> Result<usize, String> {
        for (c, times) in [('*', 1), ('+', 2), ('?', 1)] {
            if self.eat(c) {
                self.out.push(c);
                return Ok(times);
            }
        }
        if !self.eat('{') {
            return Ok(1);
        }
        let min = self
            .count()?
            .ok_or_else(|| self.wrong("expected a number"))?;
        let (mut max, mut has_max) = (Some(min), true);
        if self.eat(',') {
            max = self.count()?;
            has_max = max.is_some();
        }
        if !self.eat('}') {
            return Err(self.wrong("a { is not closed"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("a repetition ends before it begins"));
        }
        let top = max.unwrap_or(min.saturating_add(1));
        if top > SIZE_MAX {
            return Err(self.wrong(&format!("repetitions are at most {SIZE_MAX}")));
        }
        let written = match (has_max, max) {
            (true, Some(max)) => write!(self.out, "{{{min},{max}}}"),
            _ => write!(self.out, "{{{min},}}"),
        };
        // Writing to a string can't fail.
        written.unwrap_or_default();
        Ok(top.max(1))
    }

    fn count(&mut self) -> Result<Option<usize>, String> {
        let mut digits = String::new();
        while let Some(c) = self.chars.next_if(char::is_ascii_digit) {
            self.at += 1;
            digits.push(c);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(self.wrong(&format!("repetitions are at most {SIZE_MAX}"))),
        }
    }

    /// The meaning of a backslash and `c`.
    fn single(&self, c: char) -> Result<char, String> {
        match c {
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            '(' | ')' | '*' | '+' | '-' | '.' | '?' | '[' | '\\' | ']' | '^' | '{' | '|' | '}' => {
                Ok(c)
            }
            'd' => Err(self.wrong("there is no \\d, write [0-9] or \\p{Nd}")),
            'w' => Err(self.wrong("there is no \\w, write [A-Za-z0-9_]")),
            's' => Err(self.wrong("there is no \\s, write [ \\t\\n\\r]")),
            c => Err(self.wrong(&format!("there is no escape \\{c}"))),
        }
    }

    fn escaped(&mut self, c: char) -> Result<(), String> {
        let c = self.single(c)?;
        self.push_literal(c);
        Ok(())
    }

    /// Appends a literal character, also valid in a class.
    fn push_literal(&mut self, c: char) {
        if c.is_ascii_punctuation() && c != '<' && c != '>' {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// The category after `\p` or `\P`.
    fn category(&mut self, p: char) -> Result<(), String> {
        let mut name = String::new();
        if self.eat('{') {
            while let Some(c) = self.chars.next_if(char::is_ascii_alphabetic) {
                self.at += 1;
                name.push(c);
            }
        }
        let minor = match name.chars().next() {
            Some('L') => "lmotu",
            Some('M') => "cen",
            Some('N') => "dlo",
            Some('P') => "cdefios",
            Some('Z') => "lps",
            Some('S') => "ckmo",
            Some('C') => "cfno",
            _ => "",
        };
        let rest = name.get(1..).unwrap_or_default();
        let is_known =
            !minor.is_empty() && rest.len() <= 1 && rest.chars().all(|c| minor.contains(c));
        if !is_known || !self.eat('}') {
            return Err(self.wrong(&format!(
                "\\{p} needs a category of characters, like \\{p}{{Lu}}"
            )));
        }
        write!(self.out, r"\{p}{{{name}}}").unwrap_or_default();
        Ok(())
    }

    /// The class after `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat('^') {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let Some(c) = self.next() else {
                return Err(self.wrong("a [ is not closed"));
            };
            match c {
                ']' if is_first => return Err(self.wrong("a class must not be empty")),
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '-' if is_first || self.chars.peek() == Some(&']') => self.push_literal('-'),
                '\\' if matches!(self.chars.peek(), Some('p' | 'P')) => {
                    let p = self.next().unwrap_or('p');
                    self.category(p)?;
                }
                c => self.range(c)?,
            }
            is_first = false;
        }
    }

    /// A character of a class, or a range that starts with it.
    fn range(&mut self, c: char) -> Result<(), String> {
        let low = self.class_char(c)?;
        self.push_literal(low);
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('-') || ahead.next() == Some(']') {
            return Ok(());
        }
        self.next();
        let Some(c) = self.next() else {
            return Err(self.wrong("a [ is not closed"));
        };
        let high = self.class_char(c)?;
        if high < low {
            return Err(self.wrong("a range ends before it begins"));
        }
        self.out.push('-');
        self.push_literal(high);
        Ok(())
    }

    fn class_char(&mut self, c: char) -> Result<char, String> {
        match c {
            '\\' => match self.next() {
                Some(c) => self.single(c),
                None => Err(self.wrong("a \\ at the end")),
            },
            '-' | '[' | ']' => Err(self.wrong(&format!("{c} in a class is written \\{c}"))),
            c => Ok(c),
        }
    }
}
