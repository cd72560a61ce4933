//! Hash maps with a fixed seed: the same input gives the same map, on every worker and in every run.

/// A deterministic hasher.
pub type State = foldhash::quality::FixedState;

/// A map that never depends on a random seed. Iterate over it only where the order cannot reach a result.
pub type Map<K, V> = hashbrown::HashMap<K, V, State>;

/// A set that never depends on a random seed.
pub type Set<K> = hashbrown::HashSet<K, State>;
