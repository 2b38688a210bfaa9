//! A hash table that cannot be iterated, so that hash order can never reach an action.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

use siphasher::sip::SipHasher13;

/// Keys to values, with a hash keyed by the core's seed: no order to leak, and no way for a peer to choose names that collide.
///
/// ```
/// use roomcast_core::table::Table;
///
/// let mut rooms: Table<String, u32> = Table::new(7);
/// rooms.insert("workspace:1".into(), 1);
/// assert_eq!(rooms.get("workspace:1"), Some(&1));
/// assert_eq!(rooms.remove("workspace:1"), Some(1));
/// assert!(rooms.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    #[allow(clippy::disallowed_types, reason = "this is the one place that wraps it")]
    map: hashbrown::HashMap<K, V, Keyed>,
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// An empty table. `key` is drawn from the core's seed.
    pub fn new(key: u64) -> Table<K, V> {
        #[allow(clippy::disallowed_types, reason = "this is the one place that wraps it")]
        Table { map: hashbrown::HashMap::with_hasher(Keyed(key)) }
    }

    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    /// The key as it is stored, and its value: a shared key can be cloned without copying its text.
    pub fn get_key_value<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.map.get_key_value(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.map.get_mut(key)
    }

    /// Sets the value of a key and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.map.insert(key, value)
    }

    /// Removes a key and returns its value.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.map.remove(key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

#[derive(Clone, Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.0.rotate_left(32))
    }
}
