//! One bit an entry, lowest bit first: how a receiver says which of a list it needs.

/// As bytes.
pub fn render(bits: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut bitmap = vec![0; bits.len().div_ceil(8)];
    for (position, bit) in bits.enumerate() {
        bitmap[position / 8] |= u8::from(bit) << (position % 8);
    }
    bitmap
}

/// The bits of `count` entries; `None` if there are not as many.
pub fn parse(bitmap: &[u8], count: usize) -> Option<impl Iterator<Item = bool>> {
    let is_set = |position: usize| bitmap[position / 8] & (1 << (position % 8)) != 0;
    (bitmap.len() == count.div_ceil(8)).then(|| (0..count).map(is_set))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_another_number_of_them_is_noticed() {
        assert_eq!(render([true, false, true].into_iter()), [0b101]);
        for count in 0..40 {
            let bits: Vec<bool> = (0..count).map(|position| position % 3 == 1).collect();
            let bitmap = render(bits.iter().copied());
            assert_eq!(parse(&bitmap, count).unwrap().collect::<Vec<_>>(), bits);
            assert!(parse(&bitmap, count + 8).is_none());
        }
    }
}
