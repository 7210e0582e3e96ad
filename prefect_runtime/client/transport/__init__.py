"""What goes over the network, and what can go wrong there: exchanges, connections with deadlines, sockets, refusals.

The only home of requests (exchange.py, timed_http.py) and of websocket-client (sockets.py, websocket_limits.py).
"""
