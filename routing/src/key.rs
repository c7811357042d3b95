//! A short byte string that lives in place, without a heap allocation of its own.

/// Longest string kept in place, in bytes; the whole [`Key`] then takes 24 bytes, as a `Vec` does.
const INLINE_BYTES: usize = 22;

/// A routing key or a word of one, as stored in an index.
///
/// Most are short. Keeping these in place saves a memory access, and on large tables a cache miss,
/// with every comparison.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                Self::Inline {
                    len: text.len() as u8,
                    bytes,
                }
            }
            None => Self::Heap(text.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back_as_they_were() {
        for len in 0..=255 {
            let text = vec![b'x'; len];
            assert_eq!(Key::new(&text).as_bytes(), text);
        }
    }

    #[test]
    fn a_key_is_no_larger_than_a_vector() {
        assert_eq!(size_of::<Key>(), size_of::<Vec<u8>>());
    }
}
