"""Memories as markdown files.

`publishing` brings files and log together: `survey` finds what looks other than before, `reading` what people did there,
`writing` makes the files what the memories are. `folder` is the disk, `markdown` the text of one file.
"""
