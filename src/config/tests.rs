//! What the parts of this room promise each other.
