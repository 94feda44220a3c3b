bb7 bb2 bb8 bb4 bb1
bb2 bb4 bb3 bb0
bb0 bb5 bb5 bb5 bb0
bb0 bb7 bb7 bb2 bb1 bb5 bb4
bb3 bb2 bb0 bb3 bb0
bb3 bb1 bb6 bb5 bb4 bb2
