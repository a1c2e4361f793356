//! 256-bit numbers in base62.

/// A 256-bit number in 43 base62 digits, most significant first.
pub(super) fn encode(bytes: [u8; 32]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = bytes;
    let mut digits = [b'0'; 43];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("a remainder below 62 leaves a quotient below 256");
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order_and_width() {
        assert_eq!(encode([0; 32]), "0".repeat(43));
        let mut small = [0; 32];
        small[31] = 61;
        assert!(encode(small).ends_with("0z"));
        assert!(encode([255; 32]) > encode([254; 32]));
        assert_eq!(encode([255; 32]).len(), 43);
    }
}
