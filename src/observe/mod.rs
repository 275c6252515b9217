//! Looks at the world: probes, scrapes and release detectors become observations; knows nothing of triggers.

pub mod lane;
