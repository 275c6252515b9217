//! Named tasks: the death of one is a typed reason, and shutdown has a bound.
