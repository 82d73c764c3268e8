"""From a folder of files and a label table to the manifest."""
