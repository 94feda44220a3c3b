bb5 bb4 bb6 bb5 bb8 bb0 bb3
bb2 bb6 bb1 bb1 bb0 bb0 bb2
bb3 bb0 bb7
bb5 bb0 bb6 bb7 bb4
bb6 bb5 bb7 bb7 bb1 bb3
bb2 bb1 bb5
