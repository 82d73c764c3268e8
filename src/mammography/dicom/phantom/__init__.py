"""Synthetic four-view mammography exams with known truth, and files that are wrong on purpose.

`image` makes one mammogram, `files` writes any array as DICOM, `archive` writes whole exams,
`damage` and `oddities` the files that a reader must refuse or must not refuse.
"""
