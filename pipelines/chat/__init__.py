"""`mmcorpus chat`: a page of one's own to show a model a picture and ask about it.

`server.py` serves the page (`page.html`) and its questions, `answerers.py` answers them: a checkpoint in this process,
or a server that speaks OpenAI's protocol.
"""
