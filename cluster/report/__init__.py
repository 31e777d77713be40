"""The report of a run and the comparison of several: reading, judging, charts, page.

    RunDirectory → run_data (what is there) → verdict, curves, cost_charts → page → report.html

A report is written from files alone, at the end of a run or at any time later. Charts are pure:
data in, a plotly figure as plain dictionaries out.
"""
