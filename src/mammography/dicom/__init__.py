"""DICOM files: header, pixels, codecs, and the phantom that makes synthetic ones."""
