"""What training does to an image: scale, colours, crop, flip, copy-paste, and the targets left over."""
