"""Data sets of the tasks: texts and labelled images, from a folder, a library or a download with a checksum."""
