"""The data stage: rows read, checked, cleaned, split, mixed and written for the engine. Given a spec, leaves a folder.

The steps, in the order of the files below; rows are read twice and never kept in memory, so files may be larger than
memory:

    reading   files, folders, hubs -> blocks of JSON lines          (formats.py: CSV, Parquet, arrays, compressed)
    scanning  a block -> what is known of each row, in processes    (checking.py, texts.py, languages.py, tokens.py)
    table     what is known of all rows, on disk, a few bytes each
    near      rows that are almost the same (MinHash)
    choosing  which rows stay, how often, in which part
    writing   second reading: the parts in their order (mixing.py), what was dropped, samples
    report    report.json and card.html for people

`leaks` is a program of its own: compares what is trained on with what is evaluated, over all data sets of a stage.
"""
