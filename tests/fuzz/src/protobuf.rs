//! Mutations of protobuf messages by field. Which bytes are messages is guessed: those that parse as one.

use crate::random::{Random, integer, one};

/// One field: its number and what it holds.
#[derive(Debug, Clone)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
}

/// One mutation of the message, somewhere in it. `others` give fields to splice in.
pub fn mutate(message: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let Some(mut fields) = parse(message) else { return message.to_vec() };
    let at = random.below(fields.len());
    let Some(field) = fields.get_mut(at) else { return message.to_vec() };
    match &mut field.value {
        // Mostly down into the message, so that changes are as likely at the leaves as at the root.
        Value::Bytes(inner) if !random.once_in(8) && parse(inner).is_some_and(|f| !f.is_empty()) => {
            *inner = mutate(inner, others, random);
        }
        _ => change(&mut fields, at, others, random),
    }
    print(&fields)
}

fn change(fields: &mut Vec<Field>, at: usize, others: &[Vec<u8>], random: &mut Random) {
    let other = random.below(fields.len());
    match random.below(8) {
        0 => _ = fields.remove(at),
        1 => fields.insert(at, fields[at].clone()),
        2 => fields.swap(at, other),
        3 => fields[at].value = fields[other].value.clone(),
        4 => fields[at].number = 1 + random.below(24) as u64,
        5 => {
            let spliced = one(random, others).and_then(|o| parse(o)).unwrap_or_default();
            fields.extend(one(random, &spliced).cloned());
        }
        _ => edit(&mut fields[at].value, random),
    }
}

fn edit(value: &mut Value, random: &mut Random) {
    match value {
        Value::Varint(n) => *n = integer(random) as u64,
        Value::Fixed32(bytes) => *bytes = (random.bits() as u32).to_le_bytes(),
        Value::Fixed64(bytes) => *bytes = random.bits().to_le_bytes(),
        Value::Bytes(bytes) => match random.below(4) {
            0 => bytes.clear(),
            1 => bytes.truncate(random.below(bytes.len())),
            2 => bytes.extend_from_slice(&random.bits().to_le_bytes()),
            _ if bytes.is_empty() => bytes.push(random.bits() as u8),
            _ => {
                let at = random.below(bytes.len());
                bytes[at] = random.bits() as u8;
            }
        },
    }
}

fn parse(mut rest: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut rest)?),
            1 => Value::Fixed64(take(&mut rest, 8)?.try_into().ok()?),
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, len)?.to_vec())
            }
            5 => Value::Fixed32(take(&mut rest, 4)?.try_into().ok()?),
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        fields.push(Field { number: key >> 3, value });
    }
    Some(fields)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn print(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        match value {
            Value::Varint(n) => {
                put_varint(&mut out, number << 3);
                put_varint(&mut out, *n);
            }
            Value::Fixed64(bytes) => {
                put_varint(&mut out, number << 3 | 1);
                out.extend(bytes);
            }
            Value::Bytes(bytes) => {
                put_varint(&mut out, number << 3 | 2);
                put_varint(&mut out, bytes.len() as u64);
                out.extend(bytes);
            }
            Value::Fixed32(bytes) => {
                put_varint(&mut out, number << 3 | 5);
                out.extend(bytes);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_prints_as_it_was() {
        let path = optc_tests::data::testdata("lenet.onnx");
        let model = std::fs::read(path).unwrap();
        assert!(print(&parse(&model).unwrap()) == model);
    }

    #[test]
    fn a_mutation_is_a_message_still() {
        let path = optc_tests::data::testdata("lstm.onnx");
        let model = std::fs::read(path).unwrap();
        let mut random = Random::new(3);
        for _ in 0..100 {
            assert!(parse(&mutate(&model, &[], &mut random)).is_some());
        }
    }
}
