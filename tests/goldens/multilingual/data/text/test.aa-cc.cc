cc1 cc5
cc6 cc4 cc0 cc4 cc3 cc1
cc1 cc4
cc8 cc3 cc7 cc8
cc1 cc3
cc8 cc6 cc6 cc0
