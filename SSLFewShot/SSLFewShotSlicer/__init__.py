"""Everything of the Slicer module that touches Slicer, Qt or VTK. Python 3.9 syntax and runtime, no torch."""
