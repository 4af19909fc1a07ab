"""Do the stock runners read a bundle's texts and chats as our host does?

edge-case texts → answers of every reader that is installed → differences → known or not.
"""
