//! 256-bit numbers in base62.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many digits one division of the whole number yields, and by what it divides then: 62⁵ is the largest
/// power whose remainders fit 32 bits.
const GROUP: usize = 5;
const DIVISOR: u64 = 62_u64.pow(5);

/// A 256-bit number in 43 base62 digits, most significant first. Every lease and every request with a run
/// key writes one.
pub(super) fn encode(bytes: [u8; 32]) -> String {
    let (words, _) = bytes.as_chunks::<4>();
    let mut number: [u32; 8] = std::array::from_fn(|place| u32::from_be_bytes(words[place]));
    let mut digits = [b'0'; 43];
    for group in digits.rchunks_mut(GROUP) {
        let mut remainder = 0_u64;
        for word in &mut number {
            let value = (remainder << 32) | u64::from(*word);
            *word = u32::try_from(value / DIVISOR).expect("a remainder below the divisor leaves 32 bits");
            remainder = value % DIVISOR;
        }
        for digit in group.iter_mut().rev() {
            let place = usize::try_from(remainder % 62).expect("a digit");
            *digit = DIGITS[place];
            remainder /= 62;
        }
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
        // 2²⁵⁶ − 1 and a number with all its bytes different, as long division by 62 writes them.
        assert_eq!(encode([255; 32]), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
        let counted = std::array::from_fn(|place| u8::try_from(place).expect("a byte"));
        assert_eq!(encode(counted), "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf");
    }
}
