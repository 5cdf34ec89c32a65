"""Jobs to files.

Given: a plan and its jobs. Gives: the build folder (documents, `launch.sh` per job, a target's scripts), manifest and lock.
Knows: file formats and the interface `Target`; it is the only user of jinja2.
"""
