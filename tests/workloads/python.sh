# An interpreter: see python.py.
timeout -k 5 120 python3 "$here/python.py" || { echo "CHECK python-script FAIL: status $?"; bad=1; }
