//! An index of a list by what its elements hold.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

/// Finds the place of a key in a list that holds the keys itself: four bytes an entry, where a map would hold each key
/// again. Every method is told how to find the key at a place.
#[derive(Clone, Debug, Default)]
pub struct Places {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Places {
    pub fn find<'k, K: Hash + Eq + ?Sized + 'k>(&self, key: &K, key_at: impl Fn(usize) -> &'k K) -> Option<usize> {
        let is_key = |place: &u32| key_at(*place as usize) == key;
        self.table.find(self.hasher.hash_one(key), is_key).map(|place| *place as usize)
    }

    /// The list has the key at this place, and no other place has it.
    pub fn insert<'k, K: Hash + ?Sized + 'k>(&mut self, place: usize, key_at: impl Fn(usize) -> &'k K) {
        let hash = |place: &u32| self.hasher.hash_one(key_at(*place as usize));
        let place = u32::try_from(place).expect("a list of fewer than 2^32");
        self.table.insert_unique(hash(&place), place, hash);
    }

    /// The list has this key at this place, still.
    pub fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: usize) {
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(key), |one| *one as usize == place) {
            entry.remove();
        }
    }

    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        self.table.retain(|place| keep(*place as usize));
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let list: Vec<String> = (0..1000).map(|n| format!("key {n}")).collect();
        let key_at = |place: usize| list[place].as_str();
        let mut places = Places::default();
        (0..1000).for_each(|place| places.insert(place, key_at));
        places.retain(|place| place % 2 == 0);
        places.remove("key 4", 4);
        places.remove("key 6", 8);
        assert_eq!(places.find("key 2", key_at), Some(2));
        assert_eq!(places.find("key 3", key_at), None, "not kept");
        assert_eq!(places.find("key 4", key_at), None, "removed");
        assert_eq!(places.find("key 6", key_at), Some(6), "removed at another place");
        assert_eq!(places.find("key 1000", key_at), None);
        assert_eq!((places.len(), places.is_empty()), (499, false));
    }
}
