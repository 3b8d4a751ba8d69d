//! rbee's coordinator: placement and dispatch.
