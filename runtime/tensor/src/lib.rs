//! Dtypes, shapes, layouts, aligned buffers and .npy/.npz files.
