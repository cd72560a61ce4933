
#Eg‰«ÍïşÜº˜vT2"3DUfwˆ	GET /cart2€âÏª€”ï::àÆ[B
	span.kindserverB
http.status_code(”B	
errorB 
http.status_message	Not FoundRA
frontend
hostnamebox
jaeger.versionGo-2.30	
pid(