//! Mutations of text by token: numbers, words and signs are replaced, repeated, dropped or swapped.

use std::ops::Range;

use crate::random::{Random, integer, one};

/// Signs and words that mean something somewhere.
const WORDS: [&str; 26] = [
    "?", "*", "-", "[", "]", "{", "}", "(", ")", "<", ">", ",", "=", "%0", "@w", "\"", "f32", "i64", "bool", "str",
    "dense", "tensor", "seq", "opt", "nhwc", "inf",
];

/// One mutation.
pub fn mutate(input: &[u8], random: &mut Random) -> Vec<u8> {
    let tokens = tokens(input);
    let Some(token) = one(random, &tokens).cloned() else { return input.to_vec() };
    let other = one(random, &tokens).cloned().unwrap_or(0..0);
    let replaced = match random.below(6) {
        0 if input[token.start].is_ascii_digit() => integer(random).to_string().into_bytes(),
        0 | 1 => WORDS[random.below(WORDS.len())].as_bytes().to_vec(),
        2 => Vec::new(),
        3 => input[token.clone()].repeat(2),
        4 => input[token.clone()].repeat(1 + random.below(300)),
        _ => input[other].to_vec(),
    };
    let mut out = input[..token.start].to_vec();
    out.extend(replaced);
    out.extend_from_slice(&input[token.end..]);
    out
}

/// Runs of digits, of other word characters, and single signs.
fn tokens(input: &[u8]) -> Vec<Range<usize>> {
    let kind = |b: u8| match b {
        b'0'..=b'9' => 0,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => 1,
        _ => 2,
    };
    let mut out = Vec::new();
    let mut start = 0;
    for at in 1..=input.len() {
        let ends = at == input.len() || kind(input[at]) != kind(input[start]) || kind(input[start]) == 2;
        if ends {
            if !input[start].is_ascii_whitespace() {
                out.push(start..at);
            }
            start = at;
        }
    }
    out
}
