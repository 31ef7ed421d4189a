"""Your own videos with a finished model: features of their spans (`library`), spans ranked by a text (`rank`), a page (`page`)."""
