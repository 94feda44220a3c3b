cc5 cc4 cc1 cc7 cc2
cc2 cc3 cc0
cc6 cc4 cc0 cc7 cc0 cc7 cc6
cc0 cc0 cc8
cc5 cc1 cc1 cc3 cc7 cc1
cc0 cc3 cc0 cc7 cc6
cc0 cc4
cc7 cc4 cc0 cc0 cc3
cc8 cc6 cc3
cc3 cc1 cc5 cc1 cc1 cc8
cc1 cc3 cc0
cc8 cc5 cc7 cc6 cc6
cc2 cc0 cc4 cc7 cc3 cc8
cc2 cc4
cc1 cc4 cc6 cc5 cc2
cc8 cc1 cc7
cc1 cc6 cc3
cc0 cc7 cc3 cc0
cc3 cc4 cc5 cc1 cc1 cc6 cc5
cc8 cc0 cc4 cc2 cc0
cc2 cc0 cc0 cc6 cc4
cc6 cc8
cc5 cc1 cc4
cc2 cc4 cc7
cc5 cc4 cc0 cc1 cc8 cc8 cc0
cc1 cc0
cc5 cc6 cc4
cc0 cc3 cc8 cc6 cc2 cc5
cc5 cc5 cc0
cc2 cc1 cc4
cc2 cc2 cc7 cc6 cc6 cc1
cc5 cc7 cc3 cc7
cc6 cc2 cc7 cc0 cc2 cc8
cc7 cc0 cc1 cc2 cc6
cc0 cc3 cc0 cc0 cc3 cc7 cc5
cc7 cc3 cc3 cc4 cc3
cc8 cc8 cc5 cc3
cc5 cc3 cc0 cc7
cc5 cc2 cc2 cc3 cc7
cc0 cc1 cc2 cc6 cc1
