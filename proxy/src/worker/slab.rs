//! A worker's connections by number. Grows in chunks, so that growth neither copies nor doubles memory; a number's
//! generation tells an event for an earlier holder of the number from one for the present holder.

const CHUNK: usize = 64;

/// Names one entry for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The entries.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    /// An empty slab, which allocates nothing.
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// Adds an entry.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop().expect("grow adds a chunk of free slots");
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        debug_assert!(slot.value.is_none(), "a free slot holds nothing");
        slot.value = Some(value);
        self.len += 1;
        Key {
            index,
            generation: slot.generation,
        }
    }

    /// The key that the next entry will have.
    pub(crate) fn next_key(&mut self) -> Key {
        if self.free.is_empty() {
            self.grow();
        }
        let index = *self.free.last().expect("grow adds a chunk of free slots");
        let generation = self.chunks[index as usize / CHUNK][index as usize % CHUNK].generation;
        Key { index, generation }
    }

    /// The entry that `key` names, unless it is gone.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the entry out.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// Entries in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry in slot `index`, if any; slots are `0..slots()`.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self
            .chunks
            .get(index as usize / CHUNK)?
            .get(index as usize % CHUNK)?;
        slot.value.as_ref().map(|_| Key {
            index,
            generation: slot.generation,
        })
    }

    /// Slots, taken and free.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX)
    }

    /// All entries' keys.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..self.slots()).filter_map(|i| self.key_at(i)).collect()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut(index as usize / CHUNK)?
            .get_mut(index as usize % CHUNK)
    }

    fn grow(&mut self) {
        let first = self.slots();
        self.chunks.push(
            (0..CHUNK)
                .map(|_| Slot {
                    generation: 0,
                    value: None,
                })
                .collect(),
        );
        self.free.extend((first..self.slots()).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlived_by_its_slot_finds_nothing() {
        let mut slab = Slab::new();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_eq!(b.index, a.index);
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get_mut(b), Some(&mut "b"));
    }

    #[test]
    fn growth_keeps_every_entry() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..1_000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.len(), 1_000);
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(slab.get_mut(*key).copied(), Some(n));
        }
        assert_eq!(slab.keys().len(), 1_000);
    }
}
