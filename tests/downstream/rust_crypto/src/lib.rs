//! Nothing of its own: what is run here, on the backend without C, lies in the crate it depends on.
