"""Files, here and in object stores, and the cache made of them."""
