"""One file per data set; the file's name is the name in a study."""
