# escape=x
# escape=`
# only this
