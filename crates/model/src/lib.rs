//! The wire nouns: every kind Windlass serves or reads, names, ids, phases.
