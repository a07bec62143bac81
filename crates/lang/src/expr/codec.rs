//! Base 32 and base 64 as Go's libraries read them, with their words for what is wrong: sprig gives those as the value.

const LETTERS_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LETTERS_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes in base 32.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let letters = (chunk.len() * 8).div_ceil(5);
        for i in 0..8 {
            let index = (bits >> (35 - 5 * i)) & 31;
            out.push(if i < letters { LETTERS_32[index as usize] as char } else { '=' });
        }
    }
    out
}

/// What base 32 holds, or Go's complaint.
pub(super) fn unbase32(text: &str) -> Result<Vec<u8>, String> {
    let wrong = |at: usize| Err(format!("illegal base32 data at input byte {at}"));
    let bytes: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let (mut bits, mut count) = (0u64, 0);
        while count < 8 {
            let Some(&byte) = bytes.get(at) else { return wrong(start) };
            if byte == b'=' && count >= 2 && bytes.len() - at < 9 {
                // Padding fills the block to its end, in one of the lengths that mean something.
                if bytes.len() - start < 8 {
                    return wrong(bytes.len().max(start));
                }
                if let Some(i) = (at..start + 8).find(|i| bytes[*i] != b'=') {
                    return wrong(i);
                }
                if matches!(count, 1 | 3 | 6) {
                    return wrong(at);
                }
                push(&mut out, bits << (5 * (8 - count)), count * 5 / 8);
                return Ok(out);
            }
            let Some(value) = LETTERS_32.iter().position(|l| *l == byte) else { return wrong(at) };
            bits = bits << 5 | value as u64;
            count += 1;
            at += 1;
        }
        push(&mut out, bits, 5);
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, bits: u64, count: usize) {
    out.extend_from_slice(&bits.to_be_bytes()[3..3 + count]);
}

/// What base 64 holds, or Go's complaint. Line ends do not count.
pub(super) fn unbase64(text: &str) -> Result<Vec<u8>, String> {
    let wrong = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let bytes = text.as_bytes();
    let blank = |b: u8| matches!(b, b'\r' | b'\n');
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let (mut bits, mut count) = (0u32, 0);
        while count < 4 {
            let Some(&byte) = bytes.get(at) else {
                return if count == 0 { Ok(out) } else { wrong(at - count) };
            };
            at += 1;
            if blank(byte) {
                continue;
            }
            if let Some(value) = LETTERS_64.iter().position(|l| *l == byte) {
                bits = bits << 6 | value as u32;
                count += 1;
                continue;
            }
            if byte != b'=' || count < 2 {
                return wrong(at - 1);
            }
            let rest = |mut at: usize| {
                while bytes.get(at).is_some_and(|b| blank(*b)) {
                    at += 1;
                }
                at
            };
            if count == 2 {
                at = rest(at);
                match bytes.get(at) {
                    None => return wrong(bytes.len()),
                    Some(b'=') => at += 1,
                    Some(_) => return wrong(at - 1),
                }
            }
            at = rest(at);
            if at < bytes.len() {
                return wrong(at);
            }
            let block = (bits << (6 * (4 - count))).to_be_bytes();
            out.extend_from_slice(&block[1..count]);
            return Ok(out);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..4]);
    }
}
