//! Changes to a valid file: fuzzing from there comes further than from any bytes.

/// Bytes of `data` that make one change.
const EDIT_BYTES: usize = 8;
/// Where headers, keys and tables are: most changes go there.
const HEAD_BYTES: usize = 2048;

/// The file with the changes that `data` says, eight bytes each: what, where, and a value.
pub fn edited(whole: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for edit in data.chunks_exact(EDIT_BYTES) {
        let place = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        let all = if edit[0] & 0x80 == 0 { bytes.len().min(HEAD_BYTES) } else { bytes.len() };
        let at = if all == 0 { 0 } else { place * 7 % all };
        let value = &edit[3..];
        let n = usize::from(value[0]);
        match edit[0] & 7 {
            0 => put(&mut bytes, at, &value[..1]),
            1 => put(&mut bytes, at, &value[..4]),
            // A number of eight bytes, small or huge.
            2 => put(&mut bytes, at, &(u64::from(value[0]) << (value[1] % 64)).to_le_bytes()),
            3 => put(&mut bytes, at, &[0xff; 8]),
            4 => bytes.truncate(at),
            5 => drop(bytes.splice(at..at, value.iter().copied().cycle().take(n))),
            6 => drop(bytes.drain(at..(at + n).min(bytes.len()))),
            _ => {
                let from =
                    usize::from(u16::from_le_bytes([value[1], value[2]])) % bytes.len().max(1);
                let copy = bytes[from..(from + n).min(bytes.len())].to_vec();
                put(&mut bytes, at, &copy);
            }
        }
    }
    bytes
}

/// Overwrites what is there.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    let end = (at + new.len()).min(bytes.len());
    bytes[at..end].copy_from_slice(&new[..end - at]);
}
