bb4 bb5 bb8 bb0 bb7 bb3
bb0 bb2 bb1 bb5 bb7 bb3 bb6
bb1 bb3 bb0 bb3 bb6 bb4
bb6 bb2 bb1
bb7 bb2 bb2
bb0 bb3
bb2 bb2 bb4
bb3 bb8 bb3 bb2
bb3 bb6 bb4 bb0 bb5 bb6 bb2
bb4 bb1 bb5
bb0 bb5 bb1 bb4
bb4 bb7 bb5 bb2
bb7 bb2 bb0 bb4 bb0
bb5 bb6 bb0 bb8 bb6 bb5 bb6
bb0 bb7 bb0 bb2 bb3 bb1
bb7 bb5 bb8
bb8 bb4 bb7 bb1
bb5 bb4 bb0 bb6 bb1 bb3
bb8 bb5 bb2 bb5
bb8 bb1 bb4 bb5
bb2 bb1 bb2 bb4
bb2 bb0 bb1 bb8 bb6
bb3 bb5
bb7 bb6 bb2 bb0
bb0 bb7 bb5 bb3 bb2 bb2 bb6
bb2 bb6
bb2 bb0 bb6 bb4
bb7 bb2 bb8
bb7 bb5 bb7 bb4 bb4
bb6 bb2 bb1 bb6 bb8
bb7 bb5 bb2
bb7 bb4
bb8 bb8 bb5 bb1 bb5 bb0
bb5 bb8 bb4 bb7
bb4 bb5 bb2 bb0
bb8 bb4 bb5 bb4 bb7
bb8 bb5 bb5 bb4
bb5 bb6 bb5 bb2 bb7 bb5 bb5
bb2 bb8 bb2 bb3 bb5 bb7
bb1 bb6 bb2 bb8
bb6 bb4 bb8 bb4 bb0 bb3 bb2
bb7 bb2 bb3 bb2 bb0 bb7
bb2 bb0 bb2
bb5 bb2
bb3 bb8 bb0 bb6 bb7
bb6 bb1 bb3 bb3
bb5 bb0 bb5 bb6 bb4 bb6 bb1
bb8 bb5 bb0 bb8 bb4 bb1 bb4
bb8 bb5 bb4 bb5 bb2 bb6
bb8 bb5 bb7 bb2 bb2
bb6 bb7 bb3 bb2 bb1 bb5
bb0 bb6 bb1 bb5 bb8 bb2 bb5
bb6 bb6 bb6 bb3 bb7 bb4 bb7
bb6 bb6 bb2 bb4 bb4 bb7 bb4
bb0 bb5 bb4 bb7 bb4
bb7 bb0 bb1
bb7 bb3 bb4 bb0 bb2 bb6 bb0
bb8 bb8 bb4 bb3 bb7
bb3 bb7
bb2 bb4 bb4 bb7
bb7 bb8 bb1 bb0 bb2 bb4
bb8 bb5 bb4 bb8
bb7 bb5
bb2 bb0 bb0 bb4
bb7 bb1 bb8 bb3 bb0 bb6
bb7 bb6 bb7 bb6 bb3
bb7 bb1 bb4 bb0
bb6 bb4 bb7 bb4 bb2 bb2 bb7
bb8 bb7 bb5 bb8 bb2 bb6 bb8
bb1 bb3
bb1 bb1 bb0 bb5
bb6 bb1 bb6 bb7 bb0 bb1 bb1
bb1 bb2 bb4
bb7 bb2 bb2 bb2 bb6 bb2 bb1
bb3 bb0 bb8 bb1 bb6 bb1
bb0 bb1 bb6 bb2
bb6 bb1
bb7 bb7 bb5 bb5
bb2 bb4
bb8 bb4 bb8
bb3 bb4 bb1 bb8 bb3 bb4
bb8 bb2 bb3 bb5
bb6 bb2 bb2 bb0 bb5
bb0 bb1
bb8 bb7
bb6 bb7 bb7
bb1 bb8 bb0 bb8
bb6 bb0 bb2 bb6 bb3 bb1 bb1
bb7 bb3 bb2 bb6 bb5 bb3 bb4
bb5 bb6 bb6 bb2
