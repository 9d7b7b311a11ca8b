"""The paper: backbones, pixel decoder, k-means transformer decoder, heads, assembly."""
