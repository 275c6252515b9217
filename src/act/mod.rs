//! Carries out steps, one file per kind.
