"""seqjax measured beside other toolkits, doing equal work in one run.

`python -m benchmarks` lists what there is. Opponents (torch, CTranslate2) are imported
only by the processes that run them; seqjax itself needs neither.
"""
