//! How a patch is written while other processors may execute the bytes.
