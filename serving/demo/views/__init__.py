"""The pages of the demo, one module each. `show` draws a page.

`serving.demo.app` lists them. What two pages share belongs to `serving.demo`.

The folder must not be named `pages`: Streamlit takes the modules of such a folder beside the entry script for pages of its own, and
a browser that opens the address of one before any other page is shown nothing.
"""
