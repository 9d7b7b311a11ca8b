"""Parts of TensorFlow's checkpoint format: finding the files, the index, its entries and encodings."""
