//! Delivers notices: message forms, one file per kind of receiver.
