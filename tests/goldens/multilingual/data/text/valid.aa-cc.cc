cc4 cc3 cc5 cc7 cc7 cc8 cc1
cc6 cc0 cc1
cc2 cc6 cc0 cc5 cc0 cc4
cc6 cc8 cc7 cc8 cc6 cc7
cc8 cc0 cc8 cc2 cc6 cc5
cc0 cc8 cc3 cc4 cc4 cc1
